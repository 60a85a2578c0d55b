//! Statements that are prepared once per connection and then only executed, whoever wrote them.

use std::marker::PhantomData;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;

/// A hand-written statement that is prepared once per connection and then only executed. `M` names it: one type for one
/// SQL text.
pub struct Prepared<M, Q> {
    query: Q,
    name: PhantomData<M>,
}

/// Names a statement, see [`Prepared`].
pub fn prepared<M: 'static, Q>(query: Q) -> Prepared<M, Q> {
    Prepared { query, name: PhantomData }
}

/// A statement whose text depends on what is asked for, of which there are only so many: each is prepared once on a connection.
#[derive(Clone, Copy, Debug)]
pub struct PreparedByText<Q>(pub Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for PreparedByText<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> QueryId for PreparedByText<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q> Query for PreparedByText<Q> {
    type SqlType = Untyped;
}

impl<M: 'static, Q: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<M, Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<M: 'static, Q> QueryId for Prepared<M, Q> {
    type QueryId = M;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<M: 'static, Q> Query for Prepared<M, Q> {
    type SqlType = Untyped;
}
