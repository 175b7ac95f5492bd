//! Colours, dashes, markers, patterns and text: what a series looks like in every figure.
//!
//! A policy keeps its colour in all figures. Colour never stands alone: each series also has a dash
//! and a marker, each bar a pattern, so that a print in grey can be read.

use plotters::prelude::{IntoFont as _, RGBColor, TextStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, FontDesc, FontStyle, IntoTextStyle as _, register_font};
use std::sync::OnceLock;

pub(super) const FONT: &[u8] = include_bytes!("../fonts/DejaVuSansCondensed.ttf");
/// As the font file names itself.
pub(super) const FAMILY: &str = "DejaVu Sans";
/// As plotters knows it.
pub(super) const PLOTTERS_FAMILY: &str = "sans-serif";

/// Points of text at 1000 units an inch: 7.5 pt, 8 pt and 5.8 pt. plotters divides sizes by 1.24.
pub(super) const TEXT: f64 = 104.0 * 1.24;
pub(super) const TITLE: f64 = 112.0 * 1.24;
pub(super) const NOTE: f64 = 80.0 * 1.24;

pub(super) const GRID: RGBColor = RGBColor(215, 215, 215);

/// Okabe and Ito's palette, without yellow, which is too light for a thin line.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// Names that keep their colour; of several in one legend entry the first list's decides.
const COLOURS: [(&str, usize); 14] = [
    ("replicate", 0),
    ("craft", 1),
    ("rs-paxos", 2),
    ("crossword", 3),
    ("hybrid", 4),
    ("reed-solomon-erasure", 0),
    ("reed-solomon-simd", 1),
    ("rusty-erasure", 2),
    ("distkv", 1),
    ("etcd", 5),
    ("redis", 3),
    ("linearizable", 0),
    ("lease", 2),
    ("eventual", 1),
];

/// Dash and gap in units; 0 is a full line.
const DASHES: [(i32, i32); 7] =
    [(0, 0), (70, 40), (30, 40), (160, 40), (100, 30), (200, 80), (45, 25)];

/// A marker's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Up,
    Diamond,
    Down,
    Pentagon,
    Plus,
}

const SHAPES: [Shape; 7] = [
    Shape::Circle,
    Shape::Square,
    Shape::Up,
    Shape::Diamond,
    Shape::Down,
    Shape::Pentagon,
    Shape::Plus,
];

/// What fills a bar, over its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Plain,
    Rising,
    Level,
    Falling,
    Crossed,
    Upright,
    Wide,
}

const PATTERNS: [Pattern; 7] = [
    Pattern::Plain,
    Pattern::Rising,
    Pattern::Level,
    Pattern::Falling,
    Pattern::Crossed,
    Pattern::Upright,
    Pattern::Wide,
];

/// What a series looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub colour: RGBColor,
    pub dash: (i32, i32),
    pub shape: Shape,
    pub pattern: Pattern,
    /// Open markers with a dot, thin lines.
    pub simulated: bool,
}

/// The looks of all series of one figure, from their names; no two are the same.
pub(super) fn looks(names: &[(&str, bool)]) -> Vec<Look> {
    let mut taken: Vec<(String, usize, usize)> = Vec::new();
    let mut all = Vec::new();
    for (name, simulated) in names {
        let plain = name.trim_end_matches(" (sim)").to_owned();
        // A simulated series looks like its measured twin.
        let twin = taken.iter().find(|other| other.0 == plain).map(|other| (other.1, other.2));
        let (colour, form) = twin.unwrap_or_else(|| {
            let is_free = |colour: &usize| taken.iter().all(|other| other.1 != *colour);
            let reserved =
                |colour: &usize| names.iter().any(|(other, _)| colour_of(other) == Some(*colour));
            let first_free = (0..PALETTE.len()).find(|colour| is_free(colour) && !reserved(colour));
            let colour = colour_of(&plain).or(first_free).unwrap_or(taken.len() % PALETTE.len());
            let forms = (0..SHAPES.len()).map(|step| (colour + step) % SHAPES.len());
            let is_free = |form: &usize| taken.iter().all(|other| other.2 != *form);
            let form = forms.clone().find(is_free).unwrap_or(colour);
            (colour, form)
        });
        taken.push((plain, colour, form));
        all.push(Look {
            colour: PALETTE[colour],
            dash: DASHES[form],
            shape: SHAPES[form],
            pattern: PATTERNS[form],
            simulated: *simulated,
        });
    }
    all
}

/// Does the name keep one colour in all figures?
pub(super) fn has_look(name: &str) -> bool {
    colour_of(name).is_some()
}

fn colour_of(name: &str) -> Option<usize> {
    let has = |known: &&(&str, usize)| name.split([' ', ',']).any(|word| word == known.0);
    COLOURS.iter().find(has).map(|known| known.1)
}

pub(super) fn text_style(size: f64, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    let style = (PLOTTERS_FAMILY, size).into_text_style(&(1, 1));
    style.pos(Pos::new(horizontal, vertical)).color(&BLACK)
}

/// Makes the font known to plotters, once.
pub(super) fn load_font() -> Result<(), String> {
    static LOADED: OnceLock<bool> = OnceLock::new();
    let is_loaded =
        LOADED.get_or_init(|| register_font(PLOTTERS_FAMILY, FontStyle::Normal, FONT).is_ok());
    if *is_loaded { Ok(()) } else { Err("the built-in font cannot be read".to_owned()) }
}

/// Width of a line of text in units. [`load_font`] comes first.
pub(super) fn text_width(text: &str, size: f64) -> i32 {
    let font: FontDesc<'_> = (PLOTTERS_FAMILY, size).into_font();
    let estimate = i32::try_from(text.chars().count()).unwrap_or(0) * 60;
    font.box_size(text).map_or(estimate, |size| i32::try_from(size.0).unwrap_or(estimate))
}

/// Words in lines no wider than `width`, where words allow.
pub(super) fn wrapped(text: &str, size: f64, width: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_keeps_its_colour_and_no_two_series_look_alike() {
        let alone = looks(&[("craft", false)]);
        let names = ["replicate", "craft", "craft lease", "etcd", "1+4", "3+2"];
        let pairs: Vec<_> = names.iter().map(|name| (*name, false)).collect();
        let all = looks(&pairs);
        assert_eq!(alone[0].colour, all[1].colour);
        assert_eq!(all[2].colour, all[1].colour);
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(one.shape, other.shape);
                assert_ne!(one.dash, other.dash);
                assert_ne!(one.pattern, other.pattern);
            }
        }
    }

    #[test]
    fn a_simulated_series_is_its_twin_with_another_marker() {
        let both = looks(&[("craft", false), ("craft (sim)", true)]);
        assert_eq!(Look { simulated: true, ..both[0] }, both[1]);
    }

    #[test]
    fn text_is_measured_and_wrapped() {
        load_font().unwrap();
        let wide = text_width("throughput (op/s)", TEXT);
        assert!((800..1000).contains(&wide), "{wide}");
        let lines = wrapped("all nodes on one machine; medians of 3 trials", NOTE, 1200);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| text_width(line, NOTE) <= 1200));
    }
}
