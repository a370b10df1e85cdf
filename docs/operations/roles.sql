-- Creates the database and its two roles, on a new server, as its superuser:
--     OWNER_PASSWORD=… WORKER_PASSWORD=… psql -f docs/operations/roles.sql postgres
-- Only migrations log in as the owner. Workers can read and write rows, and can neither change nor drop a table.
\set ON_ERROR_STOP on
\getenv owner_password OWNER_PASSWORD
\getenv worker_password WORKER_PASSWORD

-- Without both passwords, nothing is created.
BEGIN;
CREATE ROLE enrollment_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE enrollment_worker LOGIN PASSWORD :'worker_password';
COMMIT;
CREATE DATABASE enrollment OWNER enrollment_owner TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE enrollment FROM PUBLIC;
-- Plans (dry runs, snapshots) are made in temporary tables.
GRANT CONNECT, TEMPORARY ON DATABASE enrollment TO enrollment_worker;

\connect enrollment
BEGIN;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO enrollment_owner;
GRANT USAGE ON SCHEMA public TO enrollment_worker;
-- These rights also hold for the tables of later migrations.
ALTER DEFAULT PRIVILEGES FOR ROLE enrollment_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO enrollment_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE enrollment_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO enrollment_worker;
COMMIT;
