"""Kafka, Postgres, Valkey and the provider emulator on one machine, without root or containers."""
