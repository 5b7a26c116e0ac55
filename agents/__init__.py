"""One Faust agent per file: a short shell around pure decisions."""
