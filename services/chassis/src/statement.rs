//! Statements that are prepared once per connection and then only executed, whoever wrote them.

use std::any::TypeId;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{LazyLock, PoisonError, RwLock};

use diesel::QueryResult;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{AstPass, Query, QueryBuilder as _, QueryFragment, QueryId};
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

/// A statement of the query builder's whose text is always the same.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<Q>(Q);

/// Builds the text of a statement once in the process: each time, it takes longer than all else that is done for a statement that
/// is prepared.
pub fn fixed<Q: QueryId>(query: Q) -> Fixed<Q> {
    const { assert!(Q::HAS_STATIC_QUERY_ID, "its text depends on what is asked for") };
    Fixed(query)
}

/// Texts by their statements' types, of which there are only so many.
static TEXTS: LazyLock<RwLock<HashMap<TypeId, &'static str>>> = LazyLock::new(RwLock::default);

impl<Q: QueryFragment<Pg> + QueryId> QueryFragment<Pg> for Fixed<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn to_sql(&self, out: &mut PgQueryBuilder, backend: &Pg) -> QueryResult<()> {
        let statement = TypeId::of::<Q::QueryId>();
        let known = TEXTS.read().unwrap_or_else(PoisonError::into_inner).get(&statement).copied();
        if let Some(text) = known {
            out.push_sql(text);
            return Ok(());
        }
        let mut built = PgQueryBuilder::new();
        self.0.to_sql(&mut built, backend)?;
        let text = built.finish();
        out.push_sql(&text);
        TEXTS.write().unwrap_or_else(PoisonError::into_inner).entry(statement).or_insert_with(|| text.leak());
        Ok(())
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q: QueryId> QueryId for Fixed<Q> {
    type QueryId = Q::QueryId;
    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<Q: Query> Query for Fixed<Q> {
    type SqlType = Q::SqlType;
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::*;

    diesel::table! {
        thing {
            id -> Integer,
            name -> Text,
        }
    }

    fn text(query: &dyn QueryFragment<Pg>) -> String {
        let mut built = PgQueryBuilder::new();
        query.to_sql(&mut built, &Pg).unwrap();
        built.finish()
    }

    #[test]
    fn a_text_that_was_built_before_is_that_of_its_statement() {
        let of = |id: i32| thing::table.filter(thing::id.eq(id)).select(thing::name);
        for id in [1, 2] {
            assert_eq!(text(&fixed(of(id))), text(&of(id)));
            assert_eq!(text(&fixed(of(id).for_no_key_update())), text(&of(id).for_no_key_update()));
            assert_eq!(text(&fixed(of(id).order(thing::id))), text(&of(id).order(thing::id)));
        }
    }
}
