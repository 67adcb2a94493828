"""What fvgen adds to the viewer's control panel."""

from __future__ import annotations

from nerfstudio.viewer.viewer_elements import ViewerCheckbox, ViewerControl
from torch import nn


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
