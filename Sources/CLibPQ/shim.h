#pragma once

#include <libpq-fe.h>

// The field codes of libpq are character macros, which Swift does not import.
static const int diagSeverity = PG_DIAG_SEVERITY_NONLOCALIZED;
static const int diagSQLState = PG_DIAG_SQLSTATE;
static const int diagMessage = PG_DIAG_MESSAGE_PRIMARY;
static const int diagDetail = PG_DIAG_MESSAGE_DETAIL;
static const int diagHint = PG_DIAG_MESSAGE_HINT;
static const int diagContext = PG_DIAG_CONTEXT;
static const int diagSchema = PG_DIAG_SCHEMA_NAME;
static const int diagTable = PG_DIAG_TABLE_NAME;
static const int diagColumn = PG_DIAG_COLUMN_NAME;
static const int diagConstraint = PG_DIAG_CONSTRAINT_NAME;
