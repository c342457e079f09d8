//! Compares what a log holds with what the database says of it.

use std::ops::Range;

use super::report::PartitionReport;

/// What the database says of a range of offsets, and why the log may lack some of them.
#[derive(Default)]
pub struct Fates {
    pub stored: Vec<i64>,
    pub dead: Vec<i64>,
    pub filtered: Vec<Range<i64>>,
    /// Of dead letters that retention has removed.
    pub removed: Vec<Range<i64>>,
    pub gaps: Vec<Range<i64>>,
    /// Lost by the broker, and declared.
    pub damaged: Vec<Range<i64>>,
    /// Whether records leave the log once newer ones of their key are there.
    pub is_compacted: bool,
}

/// Compares the offsets of the log with their fates, all within `range`.
pub fn compare(log: &[i64], fates: &Fates, range: Range<i64>, report: &mut PartitionReport) {
    let place = |offset: i64| usize::try_from(offset - range.start).unwrap_or(usize::MAX);
    let mut times = vec![0_u8; place(range.end)];
    let within = |each: &Range<i64>| each.start.max(range.start)..each.end.min(range.end);
    report.stored += fates.stored.len() as u64;
    report.dead += fates.dead.len() as u64;
    for &offset in fates.stored.iter().chain(&fates.dead) {
        match times.get_mut(place(offset)) {
            Some(count) => *count = count.saturating_add(1),
            // An index of a damaged database leads anywhere.
            None => report.unknown.add(offset),
        }
    }
    let (mut in_log, mut excused) = (vec![false; times.len()], vec![false; times.len()]);
    let mut damaged = vec![false; times.len()];
    for offset in fates.damaged.iter().flat_map(within) {
        damaged[place(offset)] = true;
    }
    for offset in log.iter().filter(|offset| range.contains(offset)) {
        in_log[place(*offset)] = true;
    }
    for offset in fates.filtered.iter().flat_map(within) {
        // A filtered range may span holes of the log.
        if in_log[place(offset)] {
            times[place(offset)] = times[place(offset)].saturating_add(1);
            report.filtered += 1;
        }
    }
    for offset in fates.removed.iter().flat_map(within) {
        times[place(offset)] = times[place(offset)].saturating_add(1);
        report.removed += 1;
    }
    for offset in fates.gaps.iter().flat_map(within) {
        excused[place(offset)] = true;
    }
    report.records += log.len() as u64;
    for offset in range.clone() {
        if damaged[place(offset)] && !in_log[place(offset)] {
            report.damaged += 1;
            if times[place(offset)] > 1 {
                report.twice.add(offset);
            }
            continue;
        }
        match (in_log[place(offset)], times[place(offset)], excused[place(offset)]) {
            (true, 0, true) => report.in_gaps += 1,
            (true, 0, false) => report.missing.add(offset),
            (false, 1, _) if fates.is_compacted => report.compacted += 1,
            (false, 1.., _) => report.unknown.add(offset),
            (_, 2.., _) => report.twice.add(offset),
            (true, 1, _) | (false, 0, _) => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range of offsets is meant")]
mod tests {
    use super::*;

    fn check(log: &[i64], fates: &Fates, expect: (u64, u64, u64)) {
        let mut report = PartitionReport::default();
        compare(log, fates, 10..20, &mut report);
        assert_eq!((report.missing.count, report.twice.count, report.unknown.count), expect, "{report:?}");
    }

    #[test]
    fn an_exact_database_shows_no_difference() {
        let fates = Fates { stored: vec![10, 12], dead: vec![13], filtered: vec![14..16], ..Fates::default() };
        check(&[10, 12, 13, 14, 15], &fates, (0, 0, 0));
    }

    #[test]
    fn a_lost_record_is_missing() {
        check(&[10, 11], &Fates { stored: vec![10], ..Fates::default() }, (1, 0, 0));
    }

    #[test]
    fn a_dead_letter_that_retention_removed_is_accounted_for_and_its_neighbours_are_not() {
        let fates = Fates { stored: vec![10], removed: vec![11..13, 19..25], ..Fates::default() };
        check(&[10, 11, 12, 13, 19], &fates, (1, 0, 0));
        let mut report = PartitionReport::default();
        compare(&[10, 11, 12, 13, 19], &fates, 10..20, &mut report);
        assert_eq!((report.removed, report.missing.offsets), (3, vec![13]));
        check(&[10, 11, 12, 19], &Fates { stored: vec![10, 11], ..fates }, (0, 1, 0));
    }

    #[test]
    fn a_record_both_stored_and_dead_counts_twice() {
        check(&[10], &Fates { stored: vec![10], dead: vec![10], ..Fates::default() }, (0, 1, 0));
    }

    #[test]
    fn a_row_without_a_record_is_unknown() {
        check(&[10], &Fates { stored: vec![10, 19], ..Fates::default() }, (0, 0, 1));
    }

    #[test]
    fn a_row_whose_record_was_compacted_away_is_no_difference_and_one_that_is_there_twice_is() {
        let fates = Fates { stored: vec![10, 11], dead: vec![11, 12], is_compacted: true, ..Fates::default() };
        check(&[12, 13], &fates, (1, 0, 1));
        let mut report = PartitionReport::default();
        compare(&[12, 13], &fates, 10..20, &mut report);
        assert_eq!(report.compacted, 1);
    }

    #[test]
    fn what_the_broker_declared_lost_is_neither_missing_nor_unknown() {
        let fates = Fates { stored: vec![10, 12, 13], damaged: vec![11..14], ..Fates::default() };
        check(&[10], &fates, (0, 0, 0));
        let twice = Fates { stored: vec![10, 12], dead: vec![12], damaged: vec![11..14], ..Fates::default() };
        check(&[10], &twice, (0, 1, 0));
        let mut report = PartitionReport::default();
        compare(&[10], &fates, 10..20, &mut report);
        assert_eq!(report.damaged, 3);
    }

    #[test]
    fn an_offset_that_was_not_asked_for_is_unknown() {
        check(&[9, 10, 20], &Fates { stored: vec![10, 5, i64::MAX], dead: vec![20], ..Fates::default() }, (0, 0, 3));
    }

    #[test]
    fn a_declared_gap_excuses_what_was_not_stored() {
        check(&[10, 11], &Fates { stored: vec![11], gaps: vec![10..11], ..Fates::default() }, (0, 0, 0));
    }
}
