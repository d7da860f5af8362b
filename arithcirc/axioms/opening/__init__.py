"""Open a model that learned an axiom: where, when and by what a question is answered, and whether that is a rule."""
