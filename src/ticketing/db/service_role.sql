-- Makes the role of the service. It reads and writes rows, and can't change the schema.
--
-- Run this with psql as a superuser, in the database of the service, before or after the first
-- migration. Running it again is safe. `-v owner=ROLE` names the role that runs the migrations, if
-- it is another one. Set the password in the environment variable SERVICE_PASSWORD.

\set ON_ERROR_STOP on
\getenv password SERVICE_PASSWORD
\if :{?password}
\else
\set SHOW_CONTEXT never
DO $$ BEGIN RAISE 'Set the environment variable SERVICE_PASSWORD to the password of the role.'; END $$;
\endif
\if :{?owner}
\else
\set owner :USER
\endif

BEGIN;

SELECT 'CREATE ROLE ticketing_service'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ticketing_service') \gexec

ALTER ROLE ticketing_service LOGIN PASSWORD :'password';

SELECT format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO ticketing_service', current_database()) \gexec
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ticketing_service;

-- The existing tables and sequences, and those that later migrations create.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ticketing_service;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ticketing_service;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ticketing_service;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO ticketing_service;

COMMIT;
