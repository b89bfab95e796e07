-- Questions that the knowledge did not answer, newest first, without reading all turns.
CREATE INDEX turns_without_answer ON turns (id) WHERE decision = 'no_answer' OR reason = 'low_confidence';
