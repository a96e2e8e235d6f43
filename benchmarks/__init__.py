"""Measurements, each with a baseline in the same run: python -m benchmarks.NAME [--quick] [--json FILE]"""
