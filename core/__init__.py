"""Kernel: types, wire schema, ports, errors, settings, service runner, metrics and adapters."""
