-- Where a guided flow waits for the customer, as JSON; NULL when none does. Of all tables this column alone may hold personal data
-- that is not masked (an order or phone number, which the flow's call needs). It is emptied when the flow ends, when a ticket of
-- the session is resolved, and after the flow has waited in vain.
ALTER TABLE sessions ADD COLUMN flow TEXT;

CREATE INDEX sessions_in_flow ON sessions (updated_at) WHERE flow IS NOT NULL;
