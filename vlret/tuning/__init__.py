"""Tuning methods: which parameters of an encoder are trained or added."""
