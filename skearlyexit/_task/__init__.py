"""What is predicted: classes, or values of targets."""
