"""Any torch module as a graph of operations, cut wherever they allow it."""
