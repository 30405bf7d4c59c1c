-- The columns of the store's tables, in their order.
-- No parameters.  One row per column: table, column, type.
SELECT table_name, column_name, data_type
FROM information_schema.columns
WHERE table_schema = CURRENT_SCHEMA()
ORDER BY table_name, ordinal_position
