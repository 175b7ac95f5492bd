//! Draws one figure at the width of a column, as SVG, PNG and (feature `pdf`) PDF.
//!
//! Layout, scales and ticks are ours, on the primitives of plotters. 1000 units an inch, then the
//! size in inches set through the view box. In the SVG text is outlines, so no font is needed to
//! read the file; in the PDF it is text with its font embedded. The same data gives the same bytes.

mod bars;
mod courses;
mod legend;
mod lines;
mod marks;
mod output;
mod scale;
mod sheet;
mod style;
mod surface;

pub use output::{Drawing, has_pdf};

use super::data::{FigureData, Plot};
use super::figure::FigureError;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::prelude::SVGBackend;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The figure in every format.
///
/// # Errors
/// [`FigureError::Draw`] when a library refuses.
pub fn draw(data: &FigureData) -> Result<Drawing, FigureError> {
    let fault = |reason: String| FigureError::Draw { id: data.id.clone(), reason };
    style::load_font().map_err(fault)?;
    let svg = match &data.plot {
        Plot::Points(points) if points.as_bars => bars::draw(data, points),
        Plot::Points(points) => lines::draw(data, points),
        Plot::Stacked(stacked) => bars::draw_stacked(data, stacked),
        Plot::Timeline(courses) => courses::draw(data, courses),
        Plot::Distributions(all) => courses::draw_distributions(data, all),
        Plot::Surface(surface) => surface::draw(data, surface),
    };
    output::finish(&svg.map_err(fault)?).map_err(fault)
}
