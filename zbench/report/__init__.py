"""Reports: what is shown of results. Everything here is a pure function of what a run has stored."""
