"""Rankings of models from their battles."""
