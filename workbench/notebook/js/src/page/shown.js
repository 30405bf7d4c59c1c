// Which messages of a chat people see; the same as `shown` in workbench/exports.py.

const RETRYABLE = ["interrupted", "failed", "lost"];

/** Of a question that was asked again, only the last reply; the question keeps the id of its first asking. */
export function shown(messages) {
  const kept = [];
  for (const message of messages) {
    if (message.role === "user" && asksAgain(message, kept.at(-2), kept.at(-1))) kept.pop();
    else kept.push(message);
  }
  return kept;
}

function asksAgain({ content }, question, reply) {
  return question?.role === "user" && question.content === content && RETRYABLE.includes(reply.status);
}
