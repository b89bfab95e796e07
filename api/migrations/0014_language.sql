-- The language that the customer of a ticket speaks, by ISO 639-1, where it is known.
ALTER TABLE tickets ADD COLUMN language TEXT;
