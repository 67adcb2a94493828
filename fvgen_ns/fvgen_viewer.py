"""What fvgen adds to the viewer's control panel."""

from __future__ import annotations

import mimetypes

from nerfstudio.viewer.viewer_elements import ViewerCheckbox, ViewerControl
from torch import nn

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
"""Of the files that the viewer's page is made of."""


class GeneratedCamerasToggle(nn.Module):
    """A checkbox that shows and hides the frustums of generated views, photos left as they are.

    A module without parameters, because Nerfstudio looks for viewer elements in the pipeline's modules.
    """

    def __init__(self, is_photo: list[bool]) -> None:
        """
        Args:
            is_photo: for each training image, in the order of the dataset.
        """
        super().__init__()
        self._is_photo = is_photo
        self.control = ViewerControl()
        self.show_generated = ViewerCheckbox(
            name="Generated cameras",
            default_value=True,
            cb_hook=self._show,
            hint="Show the cameras of the generated views beside those of the photos",
        )

    def _show(self, checkbox: ViewerCheckbox) -> None:
        handles = getattr(self.control.viewer, "camera_handles", {})
        for index, handle in handles.items():
            if not self._is_photo[index]:
                handle.visible = checkbox.value


def serve_scripts_as_such() -> None:
    """Give the viewer's page the types of its parts where the machine's own table lacks or misnames them.

    Browsers run no script that is served as plain text, and show a blank page.
    """
    for suffix, kind in _TYPES.items():
        mimetypes.add_type(kind, suffix)
