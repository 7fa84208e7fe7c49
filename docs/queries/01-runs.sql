-- Which runs, imports and dataset versions are in the store, and how large is each?
SELECT
  runs.run_id,
  runs.kind,
  runs.state,
  runs.created_at,
  statistics.instructions,
  statistics.instances,
  snapshot.taken_at AS as_of
FROM runs
JOIN dataset_statistics AS statistics USING (run_id)
LEFT JOIN snapshot ON TRUE
ORDER BY runs.created_at DESC;
