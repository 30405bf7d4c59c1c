-- The columns of the keys of the store's tables, in their order.
-- No parameters.  One row per column: table, column.
SELECT k.table_name, k.column_name
FROM information_schema.key_column_usage k
JOIN information_schema.table_constraints c
  ON c.constraint_name = k.constraint_name AND c.table_name = k.table_name AND c.table_schema = k.table_schema
WHERE c.constraint_type = 'PRIMARY KEY' AND k.table_schema = CURRENT_SCHEMA()
ORDER BY k.table_name, k.ordinal_position
