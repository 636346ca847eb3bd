"""Durable work: exams close, jobs run, results go out. No other room imports DBOS."""
