-- Record what a call to a model used; recording it again changes nothing.
-- Parameters: the columns, in this order.
INSERT INTO usage
    (id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, key_id, prompt_name,
     prompt_version, experiment, variant, ttft_ms, duration_ms,
     input_tokens, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
     output_tokens, thinking_tokens, web_searches, service_tier, inference_geo, speed,
     stop_reason, status, error_type, usage_estimated, cost_usd, price_source, upstream_request_id,
     history_messages, left_out_messages)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
        $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36)
ON CONFLICT (id) DO NOTHING
