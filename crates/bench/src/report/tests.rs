//! Medians, and tables as they look.

use super::*;

fn sample(per_second: f64, cpu_us: u64) -> Sample {
    let server_cpu = Duration::from_micros(cpu_us);
    Sample { per_second, server_cpu, ..Sample::default() }
}

#[test]
fn medians_are_taken_of_each_number_alone() {
    let median = median_sample(&[sample(1.0, 30), sample(3.0, 10), sample(2.0, 20)]);
    assert_eq!((median.per_second, median.server_cpu.as_micros()), (2.0, 20));
    assert_eq!(median_sample(&[]).per_second, 0.0);
}

#[test]
fn a_table_names_each_load_once_and_compares_its_two_rows() {
    let who = |label| Who { label, version: "1".to_owned() };
    let row =
        Row { name: "put", doc: "", outcomes: vec![Ok(sample(100.0, 50)), Ok(sample(900.0, 5))] };
    let failed =
        Row { name: "get", doc: "", outcomes: vec![Ok(sample(1.0, 1)), Err("no".to_owned())] };
    let report = Report {
        machine: String::new(),
        date: String::new(),
        method: String::new(),
        who: vec![who("etcd"), who("retcd")],
        rates: vec![row, failed],
        facts: vec![],
    };
    let rows = report.rate_rows();
    assert_eq!(rows[0][..3], ["put", "etcd", "100"]);
    assert_eq!(rows[1][..3], ["", "retcd", "900"]);
    assert_eq!(rows[1][9..], ["9.00", "10.00"]);
    assert_eq!(rows[3][..3], ["", "retcd", "no"]);
}

#[test]
fn tables_are_aligned() {
    let cells = |texts: [&str; 3]| texts.map(str::to_owned);
    let rows = [cells(["a", "b", "1"]).to_vec(), cells(["long", "", "1000"]).to_vec()];
    assert_eq!(
        table(&cells(["x", "y", "z"]), &rows),
        "| x    | y |    z |\n|------|---|-----:|\n| a    | b |    1 |\n| long |   | 1000 |\n"
    );
}

#[test]
fn documentation_keeps_what_is_outside_the_marks() {
    let text = format!("before\n{BEGIN}\nold\n{END}\nafter");
    let new = replace(&text, "new\n").expect("both marks");
    assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter"));
    assert_eq!(replace("no marks", "new"), None);
}
