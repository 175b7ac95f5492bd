//! From the sheet's SVG to files: text to outlines, pixels, and PDF.

use super::style::{FAMILY, FONT};
use resvg::usvg;
use std::sync::{Arc, OnceLock};

const DOTS_PER_INCH: f32 = 300.0;

/// One figure in every format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// With text as outlines.
    pub svg: String,
    /// At 300 dots an inch.
    pub png: Vec<u8>,
    /// With its font embedded; None without the feature `pdf`.
    pub pdf: Option<Vec<u8>>,
}

/// Was this program built to write PDF?
#[must_use]
pub const fn has_pdf() -> bool {
    cfg!(feature = "pdf")
}

pub(super) fn finish(svg: &str) -> Result<Drawing, String> {
    let options = usvg::Options {
        font_family: FAMILY.to_owned(),
        fontdb: fonts(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let scale = DOTS_PER_INCH / options.dpi;
    let size = tree.size().to_int_size().scale_by(scale).ok_or("the figure has no size")?;
    let mut pixels = resvg::tiny_skia::Pixmap::new(size.width(), size.height())
        .ok_or("the figure has no size")?;
    let to_pixels = resvg::tiny_skia::Transform::from_scale(scale, scale);
    resvg::render(&tree, to_pixels, &mut pixels.as_mut());
    // Coordinates are thousandths of an inch: two digits after the point are plenty.
    let writing = usvg::WriteOptions {
        coordinates_precision: 2,
        transforms_precision: 5,
        ..usvg::WriteOptions::default()
    };
    Ok(Drawing {
        svg: tree.to_string(&writing),
        png: pixels.encode_png().map_err(|error| error.to_string())?,
        pdf: pdf(&tree)?,
    })
}

/// One page of the figure's size; without a date or a random id, so that it is the same every time.
#[cfg(feature = "pdf")]
fn pdf(tree: &usvg::Tree) -> Result<Option<Vec<u8>>, String> {
    use krilla::geom::Size;
    use krilla_svg::{SurfaceExt as _, SvgSettings};
    // 96 units of SVG are an inch, and so are 72 points.
    let points = |units: f32| units * 0.75;
    let size = Size::from_wh(points(tree.size().width()), points(tree.size().height()));
    let size = size.ok_or("the figure has no size")?;
    let page = krilla::page::PageSettings::from_wh(size.width(), size.height());
    let mut document = krilla::Document::new();
    let mut page = document.start_page_with(page.ok_or("the figure has no size")?);
    let mut surface = page.surface();
    surface.draw_svg(tree, size, SvgSettings::default()).ok_or("the PDF cannot be drawn")?;
    surface.finish();
    page.finish();
    document.finish().map(Some).map_err(|error| format!("PDF: {error:?}"))
}

#[cfg(not(feature = "pdf"))]
#[expect(clippy::unnecessary_wraps, reason = "the shape that it has with the feature")]
fn pdf(_: &usvg::Tree) -> Result<Option<Vec<u8>>, String> {
    Ok(None)
}

fn fonts() -> Arc<usvg::fontdb::Database> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(FONT.to_vec());
        Arc::new(fonts)
    };
    Arc::clone(FONTS.get_or_init(load))
}
