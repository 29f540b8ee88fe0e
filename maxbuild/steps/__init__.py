"""What tasks do: one file per kind, each a pure function of its document that reads its inputs and writes its outputs."""
