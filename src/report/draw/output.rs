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
        pdf: None,
    })
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
