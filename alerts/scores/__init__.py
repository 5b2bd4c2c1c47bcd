"""Early-warning scores: tables, arithmetic, words, and publication into the vitals log."""
