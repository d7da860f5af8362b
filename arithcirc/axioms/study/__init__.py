"""The study: models of several kinds of positions, trained on several mixes, asked the same questions."""
