"""Benches: each measures one promise of maxbuild, `python -m bench.NAME`. They judge by ratios within one run."""
