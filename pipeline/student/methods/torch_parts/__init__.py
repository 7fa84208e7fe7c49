"""What needs torch when it is imported; the methods import it when they have a model at hand."""
