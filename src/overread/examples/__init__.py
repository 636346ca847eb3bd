"""Example sites, copied by ``overread init --example``."""
