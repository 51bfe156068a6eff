//! Flows whose price rises with every unit, and the exchange that makes one the cheapest there is.
//!
//! The n-th unit on an arc has its own price, and no unit is cheaper than the one before it. A flow is then the
//! cheapest exactly if no cycle of moves (one unit more along some arcs, one less along others) has a price below zero:
//! so cycles are sought (Bellman-Ford) and taken until there is none. What the prices mean is not known here; `spread`
//! says it.

use std::ops::{Add, Sub};

/// A way for units from one knot to another.
#[derive(Debug, Clone)]
pub(super) struct Arc<K> {
    pub from: usize,
    pub to: usize,
    /// Units that go along it.
    pub flow: usize,
    /// What it stands for; the price function reads it.
    pub kind: K,
}

/// Moves one unit: along the arc, or back.
#[derive(Debug, Clone, Copy)]
struct Move {
    arc: usize,
    forward: bool,
}

/// Changes the flow, but not what any knot gives or gets in all, until no exchange makes it cheaper; every exchange
/// does, so it ends. `price(kind, n)` is what the n-th unit costs, from 1; it may not fall with n.
pub(super) fn settle<K, P>(knots: usize, arcs: &mut [Arc<K>], price: impl Fn(&K, usize) -> P)
where
    P: Copy + Ord + Default + Add<Output = P> + Sub<Output = P>,
{
    while let Some(cycle) = bargain(knots, arcs, &price) {
        for Move { arc, forward } in cycle {
            if forward {
                arcs[arc].flow += 1;
            } else {
                arcs[arc].flow -= 1;
            }
        }
    }
}

/// A cycle of moves with a price below zero, if there is one.
fn bargain<K, P>(knots: usize, arcs: &[Arc<K>], price: &impl Fn(&K, usize) -> P) -> Option<Vec<Move>>
where
    P: Copy + Ord + Default + Add<Output = P> + Sub<Output = P>,
{
    let mut dist = vec![P::default(); knots];
    let mut came: Vec<Option<Move>> = vec![None; knots];
    loop {
        let mut changed = false;
        for (at, arc) in arcs.iter().enumerate() {
            let onward = dist[arc.from] + price(&arc.kind, arc.flow + 1);
            if onward < dist[arc.to] {
                (dist[arc.to], came[arc.to], changed) = (onward, Some(Move { arc: at, forward: true }), true);
            }
            if arc.flow > 0 {
                let back = dist[arc.to] - price(&arc.kind, arc.flow);
                if back < dist[arc.from] {
                    (dist[arc.from], came[arc.from], changed) = (back, Some(Move { arc: at, forward: false }), true);
                }
            }
        }
        if !changed {
            return None;
        }
        // Distances only ever fall along these moves, so a cycle of them has a price below zero; and as long as there
        // is such a cycle anywhere, distances go on falling until one closes here.
        if let Some(cycle) = closed(&came, arcs) {
            return Some(cycle);
        }
    }
}

/// A cycle among the moves by which each knot was last reached.
fn closed<K>(came: &[Option<Move>], arcs: &[Arc<K>]) -> Option<Vec<Move>> {
    let before = |knot: usize| came[knot].map(|m| (m, if m.forward { arcs[m.arc].from } else { arcs[m.arc].to }));
    let mut walk_of = vec![usize::MAX; came.len()];
    for start in 0..came.len() {
        let mut knot = start;
        while walk_of[knot] == usize::MAX {
            walk_of[knot] = start;
            match before(knot) {
                Some((_, next)) => knot = next,
                None => break,
            }
        }
        if walk_of[knot] != start || came[knot].is_none() {
            continue;
        }
        let (last, mut cycle) = (knot, Vec::new());
        while let Some((step, next)) = before(knot) {
            cycle.push(step);
            knot = next;
            if knot == last {
                return Some(cycle);
            }
        }
    }
    None
}
