"""The statements of :mod:`vitals.store.duckdb`: schema, writes, reads. Every argument is a named parameter."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS state(version INTEGER NOT NULL, position BIGINT NOT NULL, ordinal BIGINT NOT NULL);
INSERT INTO state SELECT 1, 0, 0 WHERE NOT EXISTS (FROM state);
CREATE TABLE IF NOT EXISTS tokens(kind VARCHAR NOT NULL, id INTEGER NOT NULL, token VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS stored(device INTEGER NOT NULL, readings BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS hidden(
  device INTEGER NOT NULL, vital USMALLINT NOT NULL, source_time_ns BIGINT NOT NULL, seq BIGINT NOT NULL,
  before BIGINT NOT NULL, retracted BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS readings_open(
  ordinal BIGINT NOT NULL, device INTEGER NOT NULL, patient INTEGER NOT NULL, vital USMALLINT NOT NULL,
  source_time_ns BIGINT NOT NULL, seq BIGINT NOT NULL, time_ns BIGINT NOT NULL, end_ns BIGINT, basis UTINYINT NOT NULL,
  tz_min SMALLINT NOT NULL, value DOUBLE, reported DOUBLE, unit UTINYINT NOT NULL, statistic UTINYINT NOT NULL,
  flags UINTEGER NOT NULL, message BIGINT NOT NULL, received_ns BIGINT NOT NULL, context VARCHAR);
CREATE TABLE IF NOT EXISTS readings_closed AS FROM readings_open LIMIT 0;
CREATE OR REPLACE MACRO bucket(t, width) AS t - ((t % width) + width) % width;
CREATE OR REPLACE VIEW readings AS FROM readings_open UNION ALL FROM readings_closed;
CREATE OR REPLACE VIEW visible AS FROM readings r WHERE NOT EXISTS (
  FROM hidden h WHERE h.device = r.device AND h.vital = r.vital AND h.source_time_ns = r.source_time_ns
  AND h.seq = r.seq AND h.before > r.ordinal);
"""
# NaN and NO_TIME are kept as NULL: aggregates skip them and they cost no bits.
INSERT = """
INSERT INTO readings_open
SELECT ordinal, device, patient, vital, source_time_ns, seq, time_ns, nullif(end_ns, $no_time), basis, tz_min,
  nullif(value, 'nan'::DOUBLE), nullif(reported, 'nan'::DOUBLE), unit, statistic, flags, message, received_ns, context
FROM incoming ORDER BY ordinal
"""
COUNT = """
UPDATE stored SET readings = stored.readings + new.readings
FROM (SELECT device, count(*) AS readings FROM incoming WHERE flags & $revision = 0 GROUP BY device) new
WHERE stored.device = new.device
"""
HIDE = """
INSERT INTO hidden SELECT device, vital, source_time_ns, seq,
  ordinal + CASE WHEN flags & $retracted <> 0 THEN 1 ELSE 0 END, flags & $retracted <> 0
FROM incoming WHERE flags & $revision <> 0
"""
RETRACT = "INSERT INTO hidden SELECT $device, $vital, $source_time_ns, $seq, ordinal, true FROM state"
RAW = """
SELECT time_ns, value, flags, device, seq, basis, unit FROM visible
WHERE patient = $patient AND vital = $vital AND time_ns >= $start AND time_ns < $end
ORDER BY time_ns, seq, ordinal LIMIT $limit
"""
BUCKETS = """
SELECT bucket(time_ns, $width) AS bucket_ns, avg(value) AS value, min(value) AS minimum,
  max(value) AS maximum, count(*) AS rows, bit_or(flags) AS flags
FROM visible
WHERE patient = $patient AND vital = $vital AND time_ns >= $start AND time_ns < $end AND flags & $without = 0
  AND (value IS NOT NULL OR flags & $beyond <> 0)
GROUP BY bucket_ns ORDER BY bucket_ns LIMIT $limit
"""
SPAN = """
SELECT min(time_ns), max(time_ns) FROM visible
WHERE patient = $patient AND vital = $vital AND time_ns >= $start AND time_ns < $end
"""
DAILY = """
SELECT day_ns AS bucket_ns, avg(value) AS value, min(value) AS minimum,
  max(value) AS maximum, count(*) AS rows, bit_or(flags) AS flags
FROM (FROM visible
  WHERE patient = $patient AND vital = $vital AND time_ns >= $start AND time_ns < $end AND flags & $without = 0
  AND (value IS NOT NULL OR flags & $beyond <> 0)) r
ASOF JOIN (SELECT unnest($days::BIGINT[]) AS day_ns) d ON r.time_ns >= d.day_ns
GROUP BY day_ns ORDER BY day_ns LIMIT $limit
"""
# 0 a value of certain time, 1 an average of one, 2 either of uncertain time: vitals.currency.trust_of.
_TRUST = """CASE WHEN basis = 5 OR flags & $doubted <> 0 THEN 2 WHEN statistic IN (0, 4, 5) THEN 0 ELSE 1 END"""
_COUNTS = "flags & $without = 0 AND statistic IN (0, 1, 4, 5, 6)"
LATEST = f"""
FROM visible WHERE patient = $patient AND {_COUNTS}
QUALIFY row_number() OVER (PARTITION BY vital, {_TRUST} ORDER BY time_ns DESC, seq DESC, ordinal DESC) = 1
ORDER BY vital, {_TRUST}
"""
# The newest instant of each series first: sorting every row of many patients would not fit into memory.
LATEST_MANY = f"""
WITH newest AS (
  SELECT patient, vital, {_TRUST} AS trust, max(time_ns) AS time_ns FROM visible
  WHERE patient IN (SELECT unnest($patients)) AND {_COUNTS} GROUP BY patient, vital, trust)
SELECT v.* FROM (SELECT *, {_TRUST} AS trust FROM visible WHERE {_COUNTS}) v
JOIN newest n USING (patient, vital, trust, time_ns)
QUALIFY row_number() OVER (PARTITION BY v.patient, v.vital, v.trust ORDER BY v.seq DESC, v.ordinal DESC) = 1
ORDER BY v.patient, v.vital, v.trust
"""  # noqa: S608 - constants of this module
TRENDS = """
SELECT patient, vital, (time_ns - $start) // $width AS slot, avg(value) AS value FROM visible
WHERE patient IN (SELECT unnest($patients)) AND time_ns >= $start AND time_ns < $end AND value IS NOT NULL
  AND flags & $without = 0
GROUP BY patient, vital, slot ORDER BY patient, vital, slot
"""
# Of a device, by time or, for those of unknown time, all; and by the time as sent. In order of arrival.
HELD = """
FROM visible WHERE device = $device AND (time_ns >= $first AND time_ns < $last OR basis = 5) ORDER BY ordinal
"""
SENT = """
FROM visible WHERE device = $device AND source_time_ns >= $first AND source_time_ns <= $last ORDER BY ordinal
"""
EXPORT = """
SELECT r.* REPLACE (r.flags | CASE WHEN EXISTS (
  FROM hidden h WHERE h.retracted AND h.device = r.device AND h.vital = r.vital
  AND h.source_time_ns = r.source_time_ns AND h.seq = r.seq AND h.before > r.ordinal
) THEN $retracted ELSE 0 END::UINTEGER AS flags)
FROM readings r WHERE r.patient = $patient ORDER BY vital, time_ns, seq, ordinal
"""
# By receipt, as readings came; by measurement, in the newest version. The braces take AS_RECEIVED or AS_MEASURED.
ARRIVAL_MINUTES = """
SELECT bucket({time}, 60000000000) AS minute_ns, count(*) FROM {view}
WHERE patient IN (SELECT unnest($patients)) AND {time} >= $first AND {time} < $last
GROUP BY minute_ns ORDER BY minute_ns
"""
ARRIVALS = """
FROM {view} WHERE patient IN (SELECT unnest($patients)) AND {time} >= $first AND {time} < $last
ORDER BY {time}, message, ordinal
"""
AS_RECEIVED = {"view": "readings", "time": "received_ns"}
AS_MEASURED = {"view": "visible", "time": "time_ns"}
FORGET = """
DELETE FROM hidden h WHERE EXISTS (
  FROM readings r WHERE r.patient = $patient AND h.device = r.device AND h.vital = r.vital
  AND h.source_time_ns = r.source_time_ns AND h.seq = r.seq)
AND NOT EXISTS (
  FROM readings r WHERE r.patient <> $patient AND h.device = r.device AND h.vital = r.vital
  AND h.source_time_ns = r.source_time_ns AND h.seq = r.seq)
"""
DAYS = """
SELECT bucket(time_ns, $width) AS day_ns, count(*) FROM readings_open WHERE time_ns < $limit GROUP BY day_ns
ORDER BY day_ns
"""
SORT = """
INSERT INTO readings_closed FROM readings_open WHERE time_ns >= $start AND time_ns < $end
ORDER BY patient, vital, time_ns, seq, ordinal
"""
DROP = "DELETE FROM readings_open WHERE time_ns >= $start AND time_ns < $end"
