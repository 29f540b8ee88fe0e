"""What tasks do: one file per kind, each a pure function of its document, from inputs to outputs."""
