//! What was written: Dockerfile text to instructions with spans, word expansion, ignore patterns.
