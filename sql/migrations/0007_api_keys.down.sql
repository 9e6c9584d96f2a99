DROP TABLE api_audit;
DROP TABLE api_key;
