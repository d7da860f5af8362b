"""Models as the rest of the package sees them: a narrow protocol, one adapter, the suffix engine, and the zoo."""
