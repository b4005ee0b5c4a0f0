//! The facts of a statement: what it does, as data that policy can decide on.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{AttributeNumber, Oid};

/// What a policy rule may speak of (DESIGN: actions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reads rows: SELECT, TABLE, COPY … TO STDOUT, and every read inside another statement.
    Select,
    /// INSERT, COPY … FROM STDIN also needs this.
    Insert,
    /// UPDATE, ON CONFLICT DO UPDATE, MERGE … UPDATE, SELECT … FOR UPDATE.
    Update,
    /// DELETE, MERGE … DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// MERGE, besides the actions of its branches.
    Merge,
    /// COPY in either direction, besides `select` or `insert`.
    Copy,
    /// CALL of a procedure.
    Call,
    /// Any of the five below: a rule that names it means them all.
    Ddl,
    /// CREATE, SELECT INTO, IMPORT FOREIGN SCHEMA.
    Create,
    /// ALTER, RENAME, REASSIGN OWNED.
    Alter,
    /// DROP, ALTER TABLE … DROP COLUMN.
    Drop,
    /// GRANT, REVOKE, ALTER DEFAULT PRIVILEGES.
    Grant,
    /// COMMENT, SECURITY LABEL.
    Comment,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH MATERIALIZED VIEW, CHECKPOINT.
    Maintain,
    /// EXPLAIN, besides the actions of the statement it explains.
    Explain,
    /// SET and RESET of settings beyond the harmless ones.
    Set,
}

impl Action {
    /// Whether it defines, changes or drops objects: what `ddl` means in a rule.
    pub fn is_definition(self) -> bool {
        match self {
            Action::Ddl
            | Action::Create
            | Action::Alter
            | Action::Drop
            | Action::Grant
            | Action::Comment => true,
            Action::Select
            | Action::Insert
            | Action::Update
            | Action::Delete
            | Action::Truncate
            | Action::Merge
            | Action::Copy
            | Action::Call
            | Action::Maintain
            | Action::Explain
            | Action::Set => false,
        }
    }
}

/// An identifier as PostgreSQL reads it: folded or unquoted, at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// The schema, where the text names one.
    pub schema: Option<String>,
    /// The name itself.
    pub name: String,
}

/// A statement's kind, coarse: what the completion tag and a person would call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementKind {
    /// An empty statement (only white space and comments).
    Empty,
    /// SELECT, TABLE, VALUES.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// TRUNCATE.
    Truncate,
    /// COPY … TO STDOUT.
    CopyOut,
    /// COPY … FROM STDIN.
    CopyIn,
    /// COPY with a server file or program.
    CopyServer,
    /// EXPLAIN of another statement, whose facts are included.
    Explain,
    /// PREPARE, whose body's facts are included.
    Prepare,
    /// EXECUTE of a statement prepared earlier through pgate.
    Execute,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE CURSOR, whose query's facts are included.
    DeclareCursor,
    /// FETCH, MOVE, CLOSE.
    Cursor,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their kin.
    Transaction,
    /// SET, RESET.
    Set,
    /// SHOW.
    Show,
    /// DISCARD.
    Discard,
    /// LOCK TABLE.
    Lock,
    /// LISTEN, UNLISTEN, NOTIFY.
    Notify,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// Creates, alters or drops something; GRANT, REVOKE, COMMENT.
    Ddl,
    /// VACUUM, ANALYZE and the other upkeep commands.
    Maintain,
    /// A kind that this version doesn't know. Always denied.
    Unknown,
}

/// One statement of a query string.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Where it stands in the query string, in bytes, without the semicolon.
    pub span: Range<usize>,
    /// What it does.
    pub facts: Facts,
}

/// What one statement does. Nested parts (EXPLAIN, PREPARE, cursors, CTEs,
/// sub-selects in any clause, view bodies being defined) are included.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The kind.
    pub kind: StatementKind,
    /// Every relation read or written. CTE references are not relations.
    pub relations: Vec<RelationUse>,
    /// Every column reference, including `*` and whole rows.
    pub columns: Vec<ColumnUse>,
    /// Every function, aggregate, window function and procedure that is called
    /// by name, built-in or not.
    pub functions: Vec<FunctionUse>,
    /// Every operator that is named.
    pub operators: Vec<OperatorUse>,
    /// Every type that a cast, column definition or function argument names.
    pub types: Vec<TypeUse>,
    /// Settings changed by SET, RESET, ALTER … SET, function SET clauses.
    pub settings: Vec<SettingUse>,
    /// Transaction control.
    pub transaction: Option<TransactionControl>,
    /// Ways past the statement's own relations: each is refused unless a role opens it.
    pub side_doors: Vec<SideDoor>,
    /// The channels that LISTEN and NOTIFY name (each a side door as well).
    pub channels: Vec<String>,
    /// Conditions that look a value up.
    pub lookups: Vec<LookupPredicate>,
    /// Names of prepared statements that PREPARE, EXECUTE and DEALLOCATE speak of,
    /// also inside EXPLAIN and CREATE TABLE AS; `*` for DEALLOCATE ALL.
    pub prepared: Vec<String>,
    /// Actions on no relation that a rule can name (DO, CREATE ROLE, CHECKPOINT, SET …).
    pub actions: Vec<Action>,
    /// Whether it drops, by CASCADE, what depends on what it names.
    pub drops_dependents: bool,
    /// The SQL cursors that it declares, reads or closes.
    pub cursors: Vec<CursorUse>,
    /// Whether its command tag tells how many rows it has written.
    pub row_count: RowCount,
    /// Node kinds and shapes without a handler. Not empty means: deny.
    pub unclassified: Vec<String>,
}

impl Facts {
    /// Facts of a statement of this kind that does nothing yet.
    pub fn new(kind: StatementKind) -> Self {
        Self {
            kind,
            relations: Vec::new(),
            columns: Vec::new(),
            functions: Vec::new(),
            operators: Vec::new(),
            types: Vec::new(),
            settings: Vec::new(),
            transaction: None,
            side_doors: Vec::new(),
            channels: Vec::new(),
            lookups: Vec::new(),
            prepared: Vec::new(),
            actions: Vec::new(),
            drops_dependents: false,
            cursors: Vec::new(),
            row_count: RowCount::Unseen,
            unclassified: Vec::new(),
        }
    }

    /// The targets of writes (indices into [`Facts::relations`]) of which the statement
    /// also reads columns: a condition, a source or ON CONFLICT refers to them, or
    /// RETURNING shows them; with whether one of them is shown.
    pub fn targets_read(&self) -> BTreeMap<usize, bool> {
        let mut read = BTreeMap::new();
        for column in &self.columns {
            for (at, _) in &column.candidates {
                let written = self.relations.get(*at).is_some_and(|used| used.access.is_write());
                if written {
                    *read.entry(*at).or_default() |= column.context == ColumnContext::Returning;
                }
            }
        }
        read
    }
}

/// Whether anybody outside the server can tell how many rows a statement writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowCount {
    /// Its one write is the statement itself, whose command tag counts the rows.
    Told,
    /// It runs nothing: EXPLAIN without ANALYZE.
    NotRun,
    /// It writes in a CTE, more than once, or in something that runs later.
    Unseen,
}

/// A use of an SQL cursor. Cursors and the protocol's portals share their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorUse {
    /// DECLARE.
    Declare {
        /// Its name.
        name: String,
        /// Whether it outlives its transaction (WITH HOLD).
        hold: bool,
    },
    /// FETCH and MOVE.
    Fetch(String),
    /// CLOSE; `None` closes all.
    Close(Option<String>),
}

/// What a relation is used for at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A scan: FROM, JOIN, USING, sub-select, TABLE, COPY … TO. Can be spliced.
    Scan,
    /// INSERT's target, COPY … FROM's target.
    Insert,
    /// UPDATE's target.
    Update,
    /// DELETE's target.
    Delete,
    /// MERGE's target.
    Merge,
    /// LOCK TABLE, or the FOR UPDATE/SHARE clause (which also repeats a scan).
    Lock,
    /// TRUNCATE.
    Truncate,
    /// Created, altered, dropped, commented on, granted on, referenced by a constraint.
    Ddl,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH.
    Maintain,
}

impl Access {
    /// Whether it is the target of an INSERT, UPDATE, DELETE or MERGE.
    pub fn is_write(self) -> bool {
        match self {
            Self::Insert | Self::Update | Self::Delete | Self::Merge => true,
            Self::Scan | Self::Lock | Self::Truncate | Self::Ddl | Self::Maintain => false,
        }
    }
}

/// What a name means in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Exactly this relation.
    Relation(Oid),
    /// No such relation in the catalog: it may be created by this very statement,
    /// be temporary, or be newer than the catalog. Policy refuses to read it.
    Unknown,
}

/// One use of one relation.
#[derive(Debug, Clone, PartialEq)]
pub struct RelationUse {
    /// As the text names it.
    pub name: Name,
    /// What that means under the session's search path.
    pub resolution: Resolution,
    /// What for.
    pub access: Access,
    /// The action that a rule must allow on it.
    pub action: Action,
    /// The bytes of the query string that a splice replaces: `[ONLY] name [*]`
    /// without the alias. Empty where it can't be spliced: not a plain scan, or
    /// inside a definition that is stored (a view, a rule, a function's body).
    pub range: Range<usize>,
    /// Whether `ONLY` stands before it.
    pub only: bool,
    /// The alias, where the text gives one.
    pub alias: Option<String>,
    /// The query level it belongs to: its index is shared by columns of the same
    /// level; level 0 is the outermost.
    pub scope: usize,
    /// For a COPY … TO/FROM or INSERT with a column list, and UPDATE's SET: the columns written or copied.
    pub columns: Vec<String>,
    /// Whether TABLESAMPLE is applied (a sub-select can't be sampled).
    pub sampled: bool,
    /// For an UPDATE's or DELETE's target: nothing in the text names the rows that
    /// it hits (see the walk's `narrowing`).
    pub unfiltered: bool,
}

/// Where a column reference stands: predicates can tell a value by asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnContext {
    /// Select list, VALUES, function arguments there.
    Output,
    /// WHERE, ON, HAVING, FILTER, WHEN, JOIN … USING: the value decides.
    Predicate,
    /// ORDER BY, GROUP BY, DISTINCT ON, PARTITION BY.
    Arrangement,
    /// The right side of SET, an INSERT's source: the value is stored.
    Stored,
    /// RETURNING.
    Returning,
}

/// One column reference.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnUse {
    /// The parts as written, folded: `["c", "email"]`; `*` as the last part for
    /// a star; a bare relation name for a whole row.
    pub path: Vec<String>,
    /// Whether it is a star.
    pub star: bool,
    /// Where its first byte stands in the query string.
    pub at: usize,
    /// Where.
    pub context: ColumnContext,
    /// The query level of the reference (see [`RelationUse::scope`]).
    pub scope: usize,
    /// Each relation use (index into [`Facts::relations`]) and column that this
    /// may mean, outer levels included. `None` as the column means the whole row.
    /// Empty where it means a CTE's, sub-select's or function's column.
    pub candidates: Vec<(usize, Option<AttributeNumber>)>,
}

/// `column = value` or `column IN (values)`, as a condition of its own in the WHERE of
/// the query level that scans the column's relation. Its values are constants and
/// parameters, so it can be answered before the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupPredicate {
    /// The scan: an index into [`Facts::relations`].
    pub relation: usize,
    /// The column.
    pub column: AttributeNumber,
    /// The reference to it: an index into [`Facts::columns`].
    pub reference: usize,
    /// The values, each as SQL that means the same anywhere.
    pub values: Vec<String>,
    /// The bytes of the condition in the query string.
    pub range: Range<usize>,
    /// Where its operator stands.
    pub operator: usize,
}

/// One call of a function by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionUse {
    /// As named.
    pub name: Name,
    /// The number of arguments.
    pub arguments: usize,
    /// The OIDs of all functions of this name that the call may mean and that are
    /// not PostgreSQL's own.
    pub candidates: Vec<Oid>,
    /// Whether it may mean one of PostgreSQL's own. With no candidates and this
    /// unset, the function is unknown.
    pub builtin: bool,
    /// Where the name starts in the query string.
    pub at: usize,
}

/// One operator by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorUse {
    /// As named (`OPERATOR(s.=)` has a schema).
    pub name: Name,
    /// Whether every operator of this name that the search path reaches is PostgreSQL's own.
    pub builtin: bool,
}

/// One type by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeUse {
    /// As named.
    pub name: Name,
    /// Whether it is PostgreSQL's own, an enum, or a domain or array of these:
    /// types whose input runs no code of the database's owner.
    pub builtin: bool,
}

/// One setting changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingUse {
    /// The setting, in lower case; `*` for RESET ALL.
    pub name: String,
    /// What it is set to.
    pub value: SettingValue,
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// What the session began with: RESET, SET … TO DEFAULT.
    Default,
    /// One constant or several, as text.
    Constants(Vec<String>),
    /// A parameter: any value that the client binds.
    Parameter,
}

/// Transaction control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionControl {
    /// BEGIN or START TRANSACTION.
    Begin,
    /// COMMIT or END.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS.
    Characteristics,
}

/// A way past the statement's own relations (DESIGN, masking item 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SideDoor {
    /// DO runs a block that is not analysed.
    DoBlock,
    /// COPY with a file of the server.
    ServerFile,
    /// COPY with a program.
    ServerProgram,
    /// LISTEN, NOTIFY.
    Notification,
    /// LOAD of a library.
    LoadLibrary,
    /// Foreign servers, tables and mappings.
    ForeignData,
    /// Publications and subscriptions.
    Replication,
    /// SET ROLE, SET SESSION AUTHORIZATION.
    Identity,
    /// CREATE/ALTER SYSTEM and other server-wide changes.
    ServerWide,
    /// A function, rule, trigger, operator or view body that would run later
    /// with other rights.
    StoredCode,
    /// CREATE EXTENSION, CREATE LANGUAGE.
    Extension,
    /// A security label, large object or other store that the facts can't cover.
    LargeObject,
    /// A temporary object, which shadows names.
    Temporary,
}

/// What is to stand in the place of one scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanReplacement {
    /// The scan, as an index into [`Facts::relations`] of its statement.
    pub relation: usize,
    /// `SELECT … FROM [ONLY] schema.table`, without parentheses.
    pub select: String,
    /// The relation's columns that `select` leaves out.
    pub omitted: Vec<AttributeNumber>,
    /// The conditions that `select` has already answered, as indices into
    /// [`Facts::lookups`]: they become true.
    pub answered: Vec<usize>,
}
