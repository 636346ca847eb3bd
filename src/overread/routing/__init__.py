"""Rules (which AE titles, and why) and completeness (when an exam is whole, and why)."""
