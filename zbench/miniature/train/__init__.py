"""Making the miniature's models, stage by stage; each stage resumes where it was stopped."""
