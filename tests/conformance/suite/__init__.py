"""Starts the servers, drives the clients, compares and prints: everything of the suite but the cases."""
