-- +goose Up
-- An address has more wrong logins than a name, and each is a time here. Those of the program before
-- stand there under hashes of names without a key, which whoever mistyped a password would rue; they
-- would be forgotten within a quarter of an hour.
/*! ALTER TABLE login_failures MODIFY COLUMN tries VARCHAR(1000) NOT NULL */;
DELETE FROM login_failures;

-- +goose Down
DELETE FROM login_failures;
/*! ALTER TABLE login_failures MODIFY COLUMN tries VARCHAR(200) NOT NULL */;
