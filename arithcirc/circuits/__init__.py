"""Finding circuits and judging them: localisation, selection, faithfulness."""
