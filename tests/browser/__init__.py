"""The page in a real browser; every test here is skipped where there is no Chromium."""
