"""What is asked of a model: the views it is given, those it has to draw, and what changes between variants."""
