//! Measurements: own server on a temporary folder, open-loop load, JSON reports.
