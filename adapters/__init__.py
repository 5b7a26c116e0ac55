"""Everything that leaves the process, behind small functions and protocols; driver errors end here."""
