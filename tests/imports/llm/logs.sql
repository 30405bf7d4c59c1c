-- Of the tables of llm's logs.db the columns that matter: `responses` up to 0.31, `turns` since.
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (
    id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT, response TEXT,
    response_json TEXT, conversation_id TEXT REFERENCES conversations(id), duration_ms INTEGER, datetime_utc TEXT,
    input_tokens INTEGER, output_tokens INTEGER, token_details TEXT, schema_id TEXT, resolved_model TEXT, reasoning TEXT
);
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT, provider_metadata TEXT);
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT, forked_from TEXT, datetime_utc TEXT);
CREATE TABLE turns (
    id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT, model TEXT,
    resolved_model TEXT, options_json TEXT, schema_id TEXT, input_tokens INTEGER, output_tokens INTEGER,
    token_details TEXT, duration_ms INTEGER, datetime_utc TEXT
);
CREATE TABLE turn_search (id INTEGER PRIMARY KEY, turn_id TEXT, prompt TEXT, response TEXT);

INSERT INTO conversations VALUES ('01k40000000000000000000001', 'What is stock?', 'anthropic/claude-sonnet-4-5');
INSERT INTO responses VALUES
    ('01k40000000000000000000011', 'anthropic/claude-sonnet-4-5', 'What is stock?', 'Be terse.', NULL, '{}',
     'Goods kept for sale.', NULL, '01k40000000000000000000001', 1200, '2026-09-01T08:00:00.000000+00:00',
     20, 8, NULL, NULL, 'claude-sonnet-4-5-20250929', NULL),
    ('01k40000000000000000000012', 'anthropic/claude-sonnet-4-5', 'And turnover?', 'Be terse.', NULL, '{}',
     'How often it sells in a year.', NULL, '01k40000000000000000000001', 1500, '2026-09-01T08:01:00.000000+00:00',
     40, 30, '{"cache_creation_input_tokens": 1000}', NULL, 'claude-sonnet-4-5-20250929', NULL),
    ('01k40000000000000000000013', 'gpt-4o-mini', 'Name a colour', NULL, NULL, '{}', 'Teal', NULL, NULL, 700,
     '2026-09-02T09:00:00.000000', 100, 10,
     '{"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 4}}',
     NULL, NULL, NULL),
    ('01k40000000000000000000014', 'claude-haiku-4-5', 'Say hi.', NULL, NULL, '{}', 'Hi!', NULL, NULL, 300,
     '2026-09-03T10:00:00.000000', NULL, NULL, NULL, NULL, NULL, NULL),
    ('01k40000000000000000000015', 'claude-haiku-4-5', 'Broken', NULL, NULL, '{}', '', NULL, NULL, 300,
     '2026-09-03T11:00:00.000000', -5, 1, NULL, NULL, NULL, NULL);

-- the second response once more, as it was written while both kinds of tables were
INSERT INTO threads VALUES
    ('01k40000000000000000000001', 'What is stock?', 'h2', NULL, '2026-09-01T08:00:00.000000+00:00'),
    ('01k40000000000000000000002', 'Count the rows', 'h4', NULL, '2026-10-01T08:00:00.000000+00:00');
INSERT INTO turns VALUES
    ('01k40000000000000000000012', '01k40000000000000000000001', 'h1', 'h2', 'anthropic/claude-sonnet-4-5',
     'claude-sonnet-4-5-20250929', '{}', NULL, 40, 30,
     '{"cache_creation_input_tokens": 1000, "cache_read_input_tokens": 2000, "cache_creation":
       {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}, "service_tier": "standard"}',
     1500, '2026-09-01T08:01:00.000000+00:00'),
    ('01k40000000000000000000016', '01k40000000000000000000002', 'h3', 'h4', 'claude-haiku-4-5', NULL, '{}', NULL,
     500, 50, NULL, 900, '2026-10-01T08:00:00.000000+00:00');
INSERT INTO turn_search VALUES
    (1, '01k40000000000000000000012', 'And turnover?', 'How often it sells in a year.'),
    (2, '01k40000000000000000000016', 'Count the rows', 'There are 42.');
